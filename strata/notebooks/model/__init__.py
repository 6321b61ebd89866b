"""What a notebook is: values, bounds, edits and differences; all pure."""
