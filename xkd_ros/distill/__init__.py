"""How the student is taught: losses, augmentation, and the recipes made of them."""
