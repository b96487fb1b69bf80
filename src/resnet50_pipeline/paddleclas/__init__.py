"""Renders PaddleClas configurations, starts and watches ranks, and reads what they report; never imports paddle."""
