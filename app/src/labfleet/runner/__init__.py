"""The queue tier: a CGI program that checks requests, and a resident process that publishes them."""
