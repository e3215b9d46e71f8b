"""xModel-KD: a head that sees lidar and pictures together teaches the one that has the lidar alone (METHODS 6); next: `methods`."""
