"""The house rules of design and style, proven on planted trees and held against the real one."""
