"""The whole system on one machine: real servers from wheels, and the programs that use them."""
