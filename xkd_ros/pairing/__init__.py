"""Which scan belongs to which image, and which of its points that image can see; the same code online and offline."""
