"""What the operator wants: the model, the loader of files in every dialect, interpolation, schema and masking."""
