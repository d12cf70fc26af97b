"""The game for tens to hundreds of thousands of labels: players that own label trees."""
