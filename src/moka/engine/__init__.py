"""How a net is run: layer by layer with everything in view, or as fast as it goes."""
