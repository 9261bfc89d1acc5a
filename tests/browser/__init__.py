"""A real browser on a real JupyterLab. A package, so that its fixtures end with its last test."""
