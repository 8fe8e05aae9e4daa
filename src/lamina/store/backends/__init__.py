"""Byte drivers: where blobs lie."""
