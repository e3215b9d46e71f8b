"""`xkd doctor`: one page on this machine, what will be used, and what to install for what."""
