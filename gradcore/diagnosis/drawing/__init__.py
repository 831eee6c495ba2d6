"""The drawings of the page, in SVG written by hand: over the layers, over the steps, and by seed and group."""
