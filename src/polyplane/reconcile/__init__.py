"""Proof: does every store equal derive(truth)?"""
