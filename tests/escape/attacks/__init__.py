"""The attacks, one module for each class."""
