"""How good a reader is on labelled files, and what it says about files without a node.

The door is light and empty: figures are pure NumPy (`metrics`, `ranking`, `calibration`, `losses`,
`intervals`), what runs a network imports torch, and what draws needs the extra ``train``.
"""
