"""Networks: the WaffleIron backbone, the student, and their checkpoints. Tensors in, tensors out."""
