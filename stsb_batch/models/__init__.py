"""Checkpoints on disk, the hub, and the registry of versions with its champion."""
