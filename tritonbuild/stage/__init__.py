"""The tree that becomes /opt/tritonserver: assembled, checked, packed."""
