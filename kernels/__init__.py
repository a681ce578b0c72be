"""Device code: cuda/ is compiled into entroselect._cuda, triton/ when it is first used."""
