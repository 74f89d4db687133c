"""What is made for an attempt before its backend is asked, one file a step."""
