"""Tests of the images and of what runs in them, by podman."""
