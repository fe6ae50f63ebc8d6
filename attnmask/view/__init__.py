"""Masks made visible: a grid of cells (`raster`), as characters (`terminal`), as PNG or SVG (`picture`)."""
