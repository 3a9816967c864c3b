"""What the command line and the flows call: each job strings the rooms together."""
