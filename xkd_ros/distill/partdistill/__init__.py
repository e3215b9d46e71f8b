"""PartDistill: masks with a class, from pixels or boxes, that the student learns from and then judges (METHODS 5); next: `methods`."""
