"""Golden records: small runs whose records must come out the same whatever is moved around.

Everything goes through the command line, and records are read with plain h5py: nothing here
knows how the package is laid out.
"""
