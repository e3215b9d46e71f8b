"""Frozen data types, geometry, camera models, rigs, label sets, the model card, configuration and errors."""
