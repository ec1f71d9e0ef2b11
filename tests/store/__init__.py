"""Tests of the stores: one conformance suite for all, and what is special to each."""
