"""The student at run time: numpy in, numpy out, one file per backend."""
