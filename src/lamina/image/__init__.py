"""The narrow waist: read-only images and indexes, views that change them, and the one copy planner."""
