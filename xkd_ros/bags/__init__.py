"""Reading and writing recordings: ROS bags of every kind and folders of point cloud files, and what they hold."""
