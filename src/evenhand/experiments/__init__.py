"""What both methods need to be believed."""
