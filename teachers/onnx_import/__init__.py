"""From an ONNX file to a torch module that torch.fx can trace.

``reading`` and ``tensors`` take a stranger's bytes apart, ``structure`` proves that they form one
graph of known operators, ``convert`` walks that graph and builds the module. Nothing in a file is
executed: operators are looked up in one table (``table``), and everything else is numbers.
"""
