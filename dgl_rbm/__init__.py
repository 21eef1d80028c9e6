"""Distil graph neural networks into students that read one row of features."""
