"""Calls that a filter refuses, made for real."""
