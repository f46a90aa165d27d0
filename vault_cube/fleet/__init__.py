"""A fleet of boxes under one Salt master: releases, rollouts, keys, outliers, inventory, report, and pepper."""
