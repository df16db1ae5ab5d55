"""The input of a network made on a GPU: stored values go up as they are, everything else there.

`stored_picture` and `packed` are light, for processes that decode; the others take torch.
"""
