"""Makes readers: phantoms or labelled files in, a bundle that the node serves out."""
