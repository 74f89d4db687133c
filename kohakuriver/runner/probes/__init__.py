"""What the machine can tell of itself, one file a subject. Each probe is optional and says why it is off."""
