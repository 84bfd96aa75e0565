"""Weighs, prices and bags parcels."""
