"""What is measured, and when it is logged."""
