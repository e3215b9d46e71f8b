"""Image models as teachers: what they say at the pixels that lidar points fall on, kept as targets for the student."""
