"""From a torch module to the operators of a netspec.

:mod:`capture` runs the forward method once, without numbers, and writes down what it calls.
:mod:`network` collects our operators; :mod:`axes` keeps track of how a tensor's axes were
reshaped and permuted. The other modules read one kind of call each, and :mod:`tables` says which
module, function and method is read by whom.
"""
