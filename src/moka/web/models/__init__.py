"""The pages about models: Try and Nets."""
