"""From an agent's configuration to images, manifests and the commands of container engines."""
