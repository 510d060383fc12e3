"""Many devices, many processes: the mesh, where each weight lies, who reads which rows."""
