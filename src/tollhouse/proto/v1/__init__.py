"""Tollhouse's own protocol, version 1: `gateway.proto`, and the code that is generated from it."""
