"""Layers that say how wrong a prediction is: the scalar that training makes small."""
