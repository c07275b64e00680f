"""Images, manifests and what is compared with them."""
