"""What a data set must be like before anything is trained on it: Great Expectations over the manifest."""
