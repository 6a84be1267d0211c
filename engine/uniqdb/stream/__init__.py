"""Sources of visits and what drives them. Above the engine: nothing below imports from here."""
