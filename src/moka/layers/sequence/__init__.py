"""Layers for sequences and text beyond BVLC Caffe's recurrent layers."""
