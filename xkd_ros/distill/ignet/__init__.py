"""IGNet: few labels and images that see a part of the scan (METHODS 4); next: `methods`."""
