"""Compiled loops of the network for CPUs: arrays in, arrays out, no torch. Next rooms: nets (training), runtime (the robot)."""
